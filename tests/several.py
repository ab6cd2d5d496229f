"""Run a function in several processes that train or evaluate together, as under torch's launcher."""

import multiprocessing
import os
import socket
from contextlib import nullcontext
from multiprocessing.connection import Connection

import torch

from yolo9k import processes

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", processes.CPP_LOG_LEVEL)  # inherited, since torch is imported first
CONTEXT = multiprocessing.get_context("forkserver")  # imports once, and forks from a process without threads
CONTEXT.set_forkserver_preload(
    ["yolo9k.training", "yolo9k.inference.engines.torch_engine", "torch.distributed.rendezvous"]
)
LIMIT_S = 120


def in_processes(count, function, *args, joins=True):
    """Return what `function(*args)` returns or raises in each of `count` processes, by rank; `None` if one ended.

    `joins=False`: the function joins the group itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(count)]
    members = [
        CONTEXT.Process(target=run_member, args=(rank, count, port, pipes[rank][1], joins, function, args))
        for rank in range(count)
    ]
    for member, (_, sender) in zip(members, pipes, strict=True):
        member.start()
        sender.close()
    try:
        return [receive(receiver) for receiver, _ in pipes]
    finally:
        for member in members:
            member.kill()
            member.join()


def receive(receiver: Connection):
    if not receiver.poll(LIMIT_S):
        raise TimeoutError(f"no result within {LIMIT_S} s: the processes wait for each other")
    try:
        return receiver.recv()
    except EOFError:
        return None


def run_member(rank, count, port, sender, joins, function, args):
    variables = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    try:
        with processes.joined() if joins else nullcontext():
            result = function(*args)
    except Exception as error:
        result = error
    sender.send(result)
