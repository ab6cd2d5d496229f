"""`RawEngine`: detects with an exported file of the form raw, whose map PyTorch decodes."""

from typing import Any

from yolo9k.config import Config
from yolo9k.inference.engines.session import Session
from yolo9k.inference.engines.session_network import SessionNetwork
from yolo9k.inference.engines.torch_engine import TorchEngine


class RawEngine(TorchEngine):
    """Runs a session of the form raw; has all class decoders of `TorchEngine`."""

    def __init__(self, session: Session) -> None:
        info = session.info
        assert isinstance(info.config, Config)
        network: Any = SessionNetwork(session)
        super().__init__(network, info.labels, info.config, device="cpu", precision="float32")
        self.name, self.precision = session.name, session.precision
