"""All options and arguments of the `yolo9k` commands: their names, types, ranges and help texts."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")  # default of --runs

# Weights and Darknet files

WeightsOption = Annotated[
    str,
    typer.Option(
        help="Trained weights: a run folder, a checkpoint, a Darknet file, a name of `yolo9k weights list` or an "
        "exported file (.onnx, .xml)."
    ),
]
DetectionWeightsOption = Annotated[
    str,
    typer.Option(
        help="Trained weights: a run folder, a checkpoint, a Darknet file, a name of `yolo9k weights list` or an "
        "exported file (.onnx, .xml) (default: the newest run in runs/; without a run, yolov2, a download of 200 MB)."
    ),
]
InitialWeightsOption = Annotated[
    str,
    typer.Option(
        help="Initial weights: a run folder, a checkpoint, a Darknet file or a name of `yolo9k weights list`. "
        "Matching layers are loaded, the others start from random weights."
    ),
]
CfgOption = Annotated[
    Path | None, typer.Option("--cfg", help="Darknet .cfg file of the weights (default: next to them).")
]
NamesOption = Annotated[
    Path | None, typer.Option("--names", help="Class names file of Darknet weights (default: next to the weights).")
]
TreeOption = Annotated[
    Path | None, typer.Option("--tree", help="Label tree of Darknet weights (default: the one that the cfg names).")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Darknet .data file: gives the class names file and the label tree.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Turn warnings about the Darknet .cfg file into errors.")]
InspectedFileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Darknet weights file, checkpoint or exported file.")
]
InspectedCfgOption = Annotated[
    Path | None, typer.Option("--cfg", help="Darknet .cfg file: shows which layers the weights file holds.")
]
ConvertedWeightsArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Weights: a run folder, a checkpoint, a Darknet file or a name of `yolo9k weights list`."
    ),
]
ConversionTargetArgument = Annotated[
    Path, typer.Argument(metavar="TARGET", help="File to write: NAME.pt (checkpoint) or NAME.weights (Darknet).")
]
DownloadedModelsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="Models of `yolo9k weights list`.")
]
VerifiedModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Models of `yolo9k weights list` (default: all in the cache)."),
]
UrlOption = Annotated[
    list[str] | None, typer.Option(help="Download URL of the weights, instead of the official one; repeat for mirrors.")
]
AllModelsOption = Annotated[bool, typer.Option("--all", help="Download all models of the catalogue.")]

# Images, data sets and splits

ImagesArgument = Annotated[
    list[str],
    typer.Argument(help="Images: files, folders, glob patterns ('a*.jpg') or file: URLs.", metavar="IMAGE..."),
]


def _allow_pixels(number: int | None) -> int | None:
    """Set the limit where images are read, in this process and its workers; a command need not pass it on."""
    if number is not None:
        from yolo9k.images import allow_pixels

        allow_pixels(number)
    return number


MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        callback=_allow_pixels,
        help="Max pixels of an image, e.g. 400000000 (default: $YOLO9K_MAX_PIXELS if set, else 179 million).",
    ),
]
DatasetOption = Annotated[
    str, typer.Option(help="Data set: a name of `yolo9k data list`, a config file or a folder of images.")
]
EvalDatasetOption = Annotated[
    str,
    typer.Option(
        help="Data set: a name of `yolo9k data list`, a config file or a folder (default: the one trained on)."
    ),
]
EvalSplitOption = Annotated[
    str, typer.Option(help="Split to evaluate, e.g. test (default: `eval.split` of the training config, usually val).")
]
AnchorSplitOption = Annotated[str, typer.Option(help="Split whose boxes are clustered.")]
CheckedDatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="Data set: a name of `yolo9k data list`, a config file or a folder (with --config, `data.dataset`).",
    ),
]
CheckedSplitsOption = Annotated[
    list[str] | None, typer.Option(help="Split to check, e.g. train (default: all); repeat for more.")
]
FailOnErrorsOption = Annotated[bool, typer.Option("--strict", help="Exit with code 3 if there are errors.")]
AugmentedOption = Annotated[
    int, typer.Option(min=0, help="Number of augmented training images to draw, instead of the check.")
]
AugmentedConfigOption = Annotated[
    str, typer.Option(help="Training config for --augmented: a file or a name (default: the built-in defaults).")
]
DownloadedDatasetArgument = Annotated[str, typer.Argument(metavar="NAME", help="Data set: voc or coco.")]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Folder to download into (default: $YOLO9K_DATA if set, else data).")
]
KeepArchivesOption = Annotated[bool, typer.Option("--keep-archives", help="Keep the archives after unpacking.")]

# Crops, shards and data set configs (`yolo9k data make`)

CroppedDatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="Data set with boxes: a name, a config file or a folder.")
]
CropFolderOption = Annotated[Path, typer.Option("--output", "-o", help="Output folder; must be new or empty.")]
CropSplitOption = Annotated[str, typer.Option(help="Split whose boxes are cropped.")]
MarginOption = Annotated[float, typer.Option(min=0, help="Margin on each side, as a fraction of the box.")]
PerClassOption = Annotated[int, typer.Option(min=0, help="Max crops per class, chosen at random (0: all).")]
MinSideOption = Annotated[float, typer.Option(min=1, help="Min shorter side of a box, in pixels.")]
MaxCoveredOption = Annotated[
    float, typer.Option(min=0, max=1, help="Max fraction of a box that other boxes may cover.")
]
InPlaceOption = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Keep the image size and fill the rest with the median colour of the box: objects keep their scale.",
    ),
]
CropSeedOption = Annotated[int, typer.Option(min=0, help="Random seed of --per-class.")]
PackedFolderArgument = Annotated[
    str, typer.Argument(metavar="FOLDER", help="Folder of class folders, or a data set config of kind folder.")
]
ShardFolderOption = Annotated[
    Path, typer.Option("--output", "-o", help="Output folder for the tar files and their data set config.")
]
PackedSplitOption = Annotated[str, typer.Option(help="Split to pack; run the command once per split.")]
ShardSizeOption = Annotated[float, typer.Option(min=1, help="Max size of a tar file in MB.")]
MaxImagesOption = Annotated[int, typer.Option(min=0, help="Max images, chosen at random (0: all).")]
ResizeOption = Annotated[
    int,
    typer.Option(
        min=0, metavar="PX", help="Resize larger images to this shorter side, in pixels (0: copy files unchanged)."
    ),
]
ShardSeedOption = Annotated[int, typer.Option(min=0, help="Random seed of the image order and of --max-images.")]
DescribedFolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with images and their boxes.")]
DatasetConfigOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Config file to write (default: FOLDER.yaml here).")
]
KindOption = Annotated[str | None, typer.Option(help="Annotation format: voc, coco or yolo (default: detected).")]
HoldoutOption = Annotated[
    float, typer.Option(min=0, max=0.9, help="Fraction of train to hold out as val, if there is no val split.")
]

# Training: the run folder, and short forms of config keys

ConfigOption = Annotated[
    str,
    typer.Option(
        help="Training config: a YAML file, a name of `yolo9k config list` or a Darknet .cfg file "
        "(default: the built-in defaults)."
    ),
]
TrainingDatasetOption = Annotated[
    str,
    typer.Option(
        help="Data set: a name of `yolo9k data list`, a config file or a folder of images with boxes. "
        "Sets `data.dataset`."
    ),
]
ClassifierDatasetOption = Annotated[
    str,
    typer.Option(
        help="Data set: a name of `yolo9k data list`, a config file (kind folder or shards), or a folder of class "
        "folders or tar shards. Sets `data.dataset`."
    ),
]
LabelTreeOption = Annotated[
    str,
    typer.Option(
        help="Label tree whose nodes are the classes: a .tree file or a taxonomy (default: flat labels). "
        "Sets `labels.tree` of the data set."
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(help="Resume this run folder from its last checkpoint, or from one in it (checkpoints/step100.pt)."),
]
ReplayOption = Annotated[
    Path | None,
    typer.Option(help="Repeat the step in this file (diverged-stepN.pt) and show what was not finite first."),
]
AutoResumeOption = Annotated[
    bool,
    typer.Option(
        "--auto-resume",
        help="Resume the run of this name if it exists, else start it: for schedulers that repeat the command.",
    ),
]
NameOption = Annotated[
    str,
    typer.Option(help="Name of the run folder (default: CONFIG-DATASET). If it exists, -2, -3, ... is appended."),
]
RunsOption = Annotated[Path, typer.Option(help="Folder that contains all run folders.")]
EpochsOption = Annotated[float | None, typer.Option(help="Epochs to train. Sets `train.epochs`, clears `train.steps`.")]
StepsOption = Annotated[
    int | None, typer.Option(help="Optimiser steps to train. Sets `train.steps`, clears `train.epochs`.")
]
BatchOption = Annotated[int | None, typer.Option(help="Batch size (images per optimiser step). Sets `train.batch`.")]
LrOption = Annotated[float | None, typer.Option(help="Learning rate. Sets `train.lr`.")]
TrainingSizeOption = Annotated[
    str,
    typer.Option(
        help="Network input size for training and evaluation, N or WIDTHxHEIGHT. Sets `data.size`, clears `data.sizes`."
    ),
]
ClassifierSizeOption = Annotated[
    str,
    typer.Option(help="Network input size, N or WIDTHxHEIGHT, in a single stage. Sets `data.size`, clears `stages`."),
]
TrainingDeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps. Sets `train.device`.")]
DevicesOption = Annotated[
    str,
    typer.Option(
        help="Train in several processes: their number (one per GPU, or sharing the CPU), GPUs such as 0,1, or all. "
        "The batch is divided among them."
    ),
]
MaxRestartsOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="With --devices: restarts from the last checkpoint after a process was killed (default 3)."
    ),
]
PrecisionOption = Annotated[str, typer.Option(help="Precision: auto, float32, bf16 or fp16. Sets `train.precision`.")]
SeedOption = Annotated[int | None, typer.Option(help="Random seed. Sets `train.seed`.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Data loader workers (0: load in the main process). Sets `data.workers`.")
]
PatienceOption = Annotated[
    int | None,
    typer.Option(help="Early stopping: epochs without a better score (0: off). Sets `train.patience`."),
]
OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", help="Config key to set, KEY=VALUE, e.g. train.lr=0.001; repeat for more.")
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Dry run: one step at the largest size, then memory, speed and estimated time."),
]

# Network input, device and thresholds

SizeOption = Annotated[
    str, typer.Option(help="Network input size, N or WIDTHxHEIGHT (default: the size stored with the weights).")
]


class ResizeMode(str, Enum):
    """How images are fitted to the network's input size."""

    letterbox = "letterbox"
    stretch = "stretch"


ResizeModeOption = Annotated[
    ResizeMode | None,
    typer.Option(
        help="Letterbox images (keep their aspect ratio) or stretch them to the input size "
        "(default: `data.resize_mode` stored with the weights)."
    ),
]
AnchorResizeModeOption = Annotated[
    ResizeMode | None,
    typer.Option(help="Letterbox or stretch images (default: `data.resize_mode` of the --write config, or letterbox)."),
]


class EngineName(str, Enum):
    """What runs a network."""

    auto = "auto"
    torch = "torch"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


EngineOption = Annotated[
    EngineName,
    typer.Option(help="What runs the network: an exported file by onnxruntime or openvino, other weights by torch."),
]


class InferencePrecision(str, Enum):
    """Number format of the network."""

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"


InferencePrecisionOption = Annotated[
    InferencePrecision,
    typer.Option(
        "--precision",
        help="Precision of the network (auto: bf16 if the hardware multiplies it natively, fp16 on other CUDA GPUs, "
        "else float32; always float32 for Darknet's files).",
    ),
]
InferenceBatchOption = Annotated[int, typer.Option(min=1, help="Batch size (images per forward pass).")]
EvalBatchOption = Annotated[
    int | None,
    typer.Option(min=1, help="Batch size (images per forward pass; default: `eval.batch` of the training config)."),
]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")]
ConfOption = Annotated[float, typer.Option(min=0, max=1, help="Confidence threshold: detections below it are dropped.")]
IouOption = Annotated[float, typer.Option(min=0, max=1, help="NMS IoU threshold.")]
MaxDetectionsOption = Annotated[
    int, typer.Option("--max-detections", min=1, max=1_000_000, help="Max detections per image.")
]
EvalConfOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Confidence threshold (default: `eval.conf` of the training config, usually 0.005)."
    ),
]
EvalIouOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="NMS IoU threshold (default: `eval.iou` of the training config, usually 0.45)."),
]
EvalMaxDetectionsOption = Annotated[
    int | None,
    typer.Option(
        "--max-detections",
        min=1,
        max=1_000_000,
        help="Max detections per image (default: as in the training config, usually 100).",
    ),
]
AgnosticOption = Annotated[
    bool, typer.Option(help="Class-agnostic NMS: boxes of different classes suppress each other.")
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(help="Class to keep (in a label tree with its descendants); repeat or separate by commas."),
]
TopOption = Annotated[int, typer.Option(min=1, help="Labels to show per image (top-k).")]
WorstOption = Annotated[int, typer.Option(min=0, help="Number of worst classes and most frequent mistakes to show.")]

# Label trees


class TreeMode(str, Enum):
    """Descent rule in a label tree."""

    paper = "paper"
    darknet = "darknet"


HierThreshOption = Annotated[
    float | None,
    typer.Option(
        "--hier-thresh",
        min=0,
        max=1,
        help="Hierarchical threshold: descend the label tree while the path probability stays above it (default 0.5).",
    ),
]
LeavesOnlyOption = Annotated[
    bool, typer.Option("--leaves-only", help="Label tree: use the most probable leaf, without a descent.")
]
UnderOption = Annotated[
    list[str] | None,
    typer.Option("--under", help="Label tree: use only this label and its descendants, e.g. animal; repeat for more."),
]
TreeModeOption = Annotated[
    TreeMode,
    typer.Option(
        "--tree-mode",
        help="Label tree: descent rule. paper: the confidence is objectness x path probability; darknet: as Darknet's "
        "detector, which stops higher in the tree and reports the objectness.",
    ),
]
MapOption = Annotated[
    Path | None,
    typer.Option("--map", help="Darknet .map file: line i holds the model's node of the data set's class i."),
]
ExactOption = Annotated[
    bool | None,
    typer.Option(
        "--exact/--by-ancestry",
        help="Label tree: a detection counts for its own label only, or also for its ancestors "
        "(default: by ancestry if the labels are a tree).",
    ),
]
InnerOption = Annotated[
    bool, typer.Option("--inner", help="Label tree: also evaluate the ancestors of the labels that have boxes.")
]
BoxSupervisedOption = Annotated[
    Path | None,
    typer.Option(
        "--box-supervised",
        help="Darknet .map file of the box-supervised labels, all others being weakly supervised "
        "(default: as stored with the weights).",
    ),
]
TreeArgument = Annotated[
    Path,
    typer.Argument(
        metavar="TREE", help="Label tree: a .tree file (with .names next to it) or a taxonomy (text, YAML)."
    ),
]
TaxonomyOption = Annotated[Path | None, typer.Option(help="Taxonomy file of your own labels: indented text or YAML.")]
WordnetLabelsOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="WordNet ids (n02084071): a file with one per line, or a folder of folders with such names (ImageNet); "
        "repeat to join several."
    ),
]
WordnetOption = Annotated[
    Path | None, typer.Option(help="Folder of WordNet 3.0's data.noun (default: the usual places are searched).")
]
RootOption = Annotated[str, typer.Option(help="WordNet id of the root; the root itself is not a node of the tree.")]
TreeNameOption = Annotated[
    str, typer.Option("--output", "-o", help="Output path without suffix: writes NAME.tree, NAME.labels, NAME.names.")
]
SubtreeOption = Annotated[
    str, typer.Option("--under", help="Draw only this node (id, name or alias) and its descendants.")
]
DepthOption = Annotated[int | None, typer.Option(min=0, help="Max levels to draw (default: all).")]
CoveredDatasetsOption = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Data set: report which labels have boxes or image-level labels; repeat for more."),
]

# Anchors

NumAnchorsOption = Annotated[int, typer.Option("-k", min=1, max=100, help="Number of anchors.")]
AnchorSizeOption = Annotated[
    str, typer.Option(help="Network input size that images are letterboxed to, N or WIDTHxHEIGHT.")
]
StrideOption = Annotated[int, typer.Option(min=1, help="Stride: pixels per grid cell (32 for all models here).")]
AnchorSeedOption = Annotated[int, typer.Option(min=0, help="Random seed.")]
SweepOption = Annotated[str, typer.Option(help="Range of anchor counts to cluster as well, e.g. 1-15.")]
AnchorPlotOption = Annotated[
    Path | None, typer.Option(help="Plot of boxes, anchors and sweep to write (default with --sweep: anchors.png).")
]
UpdatedConfigOption = Annotated[
    Path | None,
    typer.Option("--write", help="Training config to update: sets `model.anchors` and `model.num_anchors`."),
]

# Configs, demo and benchmarks

ShownConfigArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Config or data set: a name or a file (default: the built-in defaults)."),
]
CheckedConfigArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Config or data set: a file or a name of `yolo9k config list`.")
]
RawOption = Annotated[bool, typer.Option(help="Print the file unchanged, with its comments, as a template.")]
DemoFolderOption = Annotated[Path, typer.Option("--out", help="Output folder.")]
AllBoxesOption = Annotated[
    bool, typer.Option("--all-boxes", help="Train with box labels for all fine classes instead (the upper bound).")
]
DemoStepsOption = Annotated[
    int | None, typer.Option(min=1, help="Optimiser steps to train (default: those of the demo config).")
]
DemoSeedOption = Annotated[int, typer.Option(min=0, help="Random seed of images, anchors and training.")]
BenchConfigOption = Annotated[str, typer.Option(help="Training config: its model and batch size are measured.")]
BenchSizeOption = Annotated[str, typer.Option(help="Network input size, N or WIDTHxHEIGHT.")]
BenchBatchOption = Annotated[int, typer.Option(min=1, help="Batch size (images per step).")]
SpeedStepsOption = Annotated[int, typer.Option(min=2, help="Steps per measurement.")]
BenchStepsOption = Annotated[int, typer.Option(min=1, help="Steps per measurement.")]
BenchRoundsOption = Annotated[int, typer.Option(min=1, help="Rounds: the variants are measured alternately.")]
DetectionRoundsOption = Annotated[
    int, typer.Option("--rounds", min=2, help="Rounds: the engines are measured alternately; the first warms up.")
]
BenchRunsOption = Annotated[int, typer.Option(min=1, help="Runs per backbone; the median is reported.")]
BackboneOption = Annotated[
    list[str] | None, typer.Option("--only", help="Backbone to measure (default: all); repeat for more.")
]
BenchTreeOption = Annotated[Path, typer.Option("--tree", help="Label tree: a .tree file or a taxonomy.")]
BoxesOnlyOption = Annotated[
    bool, typer.Option(help="Measure batches of images with boxes only, without image-level labels.")
]

# Output

OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite existing files that this command has not written (never inputs).")
]
JsonOption = Annotated[
    str, typer.Option("--json", metavar="FILE", help="Write the result as JSON (-: standard output).")
]
DetectionsJsonOption = Annotated[
    str,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write all detections as JSON, plain and as COCO results (-: standard output).",
    ),
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all detections as CSV.")]
TxtOption = Annotated[
    Path | None,
    typer.Option(
        "--txt", metavar="FOLDER", help="Write YOLO text files: class cx cy w h score, relative to the image."
    ),
]
CocoResultsOption = Annotated[
    str, typer.Option("--results", metavar="FILE", help="Write the detections as COCO results (-: standard output).")
]
DrawnFolderOption = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the drawn images.")]
DrawOption = Annotated[bool, typer.Option(help="Draw the boxes into copies of the images.")]
PlotsOption = Annotated[
    Path | None, typer.Option("--plots", metavar="FOLDER", help="Folder for plots and example images.")
]
CocoOption = Annotated[bool, typer.Option(help="Compute the twelve COCO metrics (the slowest part of the evaluation).")]

# Export

ExportedWeightsArgument = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS",
        help="Weights: a run folder, a checkpoint, a Darknet file or a name of `yolo9k weights list`.",
    ),
]


class ExportFormat(str, Enum):
    """File formats of `yolo9k export`."""

    onnx = "onnx"
    openvino = "openvino"


ExportFormatOption = Annotated[
    ExportFormat, typer.Option("--format", help="File format: onnx (.onnx) or openvino (.xml and .bin).")
]


class ExportForm(str, Enum):
    """What an exported file computes."""

    detections = "detections"
    raw = "raw"
    probabilities = "probabilities"


ExportFormOption = Annotated[
    ExportForm | None,
    typer.Option(
        help="Output of the file. detections: boxes after NMS, with thresholds as inputs; raw: the network's own map "
        "(of a classifier: logits); probabilities: of a classifier (default: detections, of a classifier "
        "probabilities)."
    ),
]
ExportBatchOption = Annotated[
    str, typer.Option("--batch", metavar="N|dynamic", help="Batch size of the file: a fixed one, or any.")
]
ExportOutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File to write, e.g. cells.onnx (default: exported/NAME/NAME.onnx or NAME.xml)."
    ),
]
ParityImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        help="Images on which the file is compared with PyTorch, the first 8 (default: a photo that matplotlib ships).",
    ),
]
