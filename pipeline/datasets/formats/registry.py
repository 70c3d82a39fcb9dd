"""The formats that `convert` reads. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

CC = "https://creativecommons.org/licenses"
NO_LICENSE = "no license stated; ask the authors"


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: where its reader is, and what the converted file says about the data set.

    reads: what SOURCE is. skeleton: name of the shipped skeleton that is the default. module: of `read`. description: `info` of the
    file; that of a data set begins with `described_as` of its data card. license: name and URL of the images and annotations,
    unless the source lists its own. citation: of the paper.
    """

    reads: str
    skeleton: str
    module: str
    description: str
    url: str = ""
    year: int = 0
    contributor: str = ""
    license: tuple[str, str] = ("", "")
    citation: str = ""


FormatName = Literal[
    "lsp",
    "mpii",
    "aic",
    "crowdpose",
    "ochuman",
    "posetrack18",
    "coco-wholebody",
    "coco-foot",
    "halpe",
    "jhmdb",
    "labelme",
    "label-studio",
    "cvat",
    "yolo-pose",
]

FORMATS: dict[FormatName, Format] = {
    "lsp": Format(
        reads="joints.mat of Leeds Sports Pose or LSP-Extended, or its folder",
        skeleton="lsp14",
        module="lsp",
        description="Leeds Sports Pose",
        url="http://sam.johnson.io/research/lspet.html",
        year=2011,
        contributor="Sam Johnson and Mark Everingham, University of Leeds",
        license=(f"images from Flickr; {NO_LICENSE}", "http://sam.johnson.io/research/lspet.html"),
        citation="S. Johnson and M. Everingham, Learning Effective Human Pose Estimation from Inaccurate Annotation, CVPR 2011",
    ),
    "mpii": Format(
        reads="mpii_human_pose_v1_u12_1.mat, or mpii_*.json as MMPose and HRNet use it",
        skeleton="mpii16",
        module="mpii",
        description="MPII Human Pose",
        url="http://human-pose.mpi-inf.mpg.de",
        year=2014,
        contributor="Max Planck Institute for Informatics",
        license=("research only, no commercial use", "http://human-pose.mpi-inf.mpg.de"),
        citation="M. Andriluka, L. Pishchulin, P. Gehler and B. Schiele, 2D Human Pose Estimation: New Benchmark and State of the Art "
        "Analysis, CVPR 2014",
    ),
    "aic": Format(
        reads="keypoint_*_annotations_*.json of AI Challenger 2017",
        skeleton="aic14",
        module="ai_challenger",
        description="AI Challenger keypoints",
        url="https://github.com/AIChallenger/AI_Challenger_2017",
        year=2017,
        contributor="AI Challenger",
        license=(NO_LICENSE, "https://github.com/AIChallenger/AI_Challenger_2017"),
        citation="J. Wu et al., AI Challenger: A Large-scale Dataset for Going Deeper in Image Understanding, arXiv:1711.06475, 2017",
    ),
    "crowdpose": Format(
        reads="crowdpose_*.json",
        skeleton="crowdpose14",
        module="crowdpose",
        description="CrowdPose",
        url="https://github.com/Jeff-sjtu/CrowdPose",
        year=2019,
        contributor="J. Li et al., Shanghai Jiao Tong University",
        license=(NO_LICENSE, "https://github.com/Jeff-sjtu/CrowdPose"),
        citation="J. Li, C. Wang, H. Zhu, Y. Mao, H.-S. Fang and C. Lu, CrowdPose: Efficient Crowded Scenes Pose Estimation and A New "
        "Benchmark, CVPR 2019, arXiv:1812.00324",
    ),
    "ochuman": Format(
        reads="ochuman.json, or ochuman_coco_format_*.json",
        skeleton="coco18",
        module="ochuman",
        description="OCHuman",
        url="https://github.com/liruilong940607/OCHumanApi",
        year=2019,
        contributor="S.-H. Zhang et al., Tsinghua University",
        license=(NO_LICENSE, "https://github.com/liruilong940607/OCHumanApi"),
        citation="S.-H. Zhang et al., Pose2Seg: Detection Free Human Instance Segmentation, CVPR 2019, arXiv:1803.10683",
    ),
    "posetrack18": Format(
        reads="an annotation file of PoseTrack 2018, or a folder of them",
        skeleton="posetrack15",
        module="posetrack",
        description="PoseTrack 2018",
        url="https://posetrack.net",
        year=2018,
        contributor="M. Andriluka et al.",
        license=(NO_LICENSE, "https://posetrack.net"),
        citation="M. Andriluka et al., PoseTrack: A Benchmark for Human Pose Estimation and Tracking, CVPR 2018, arXiv:1710.10000",
    ),
    "coco-wholebody": Format(
        reads="coco_wholebody_*_v1.0.json",
        skeleton="wholebody133",
        module="whole_body",
        description="COCO-WholeBody",
        url="https://github.com/jin-s13/COCO-WholeBody",
        year=2020,
        contributor="S. Jin et al., SenseTime Research",
        citation="S. Jin et al., Whole-Body Human Pose Estimation in the Wild, ECCV 2020",
    ),
    "coco-foot": Format(
        reads="person_keypoints_*_foot_v1.json of CMU",
        skeleton="body25",
        module="coco_foot",
        description="CMU foot keypoints of COCO",
        url="https://github.com/CMU-Perceptual-Computing-Lab/openpose",
        year=2018,
        contributor="CMU Perceptual Computing Lab",
        citation="Z. Cao, G. Hidalgo, T. Simon, S.-E. Wei and Y. Sheikh, OpenPose: Realtime Multi-Person 2D Pose Estimation using Part "
        "Affinity Fields, TPAMI 2019, arXiv:1812.08008",
    ),
    "halpe": Format(
        reads="halpe_*_v1.json",
        skeleton="halpe26",
        module="halpe",
        description="Halpe full-body",
        url="https://github.com/Fang-Haoshu/Halpe-FullBody",
        year=2020,
        contributor="H.-S. Fang et al., Shanghai Jiao Tong University",
        license=(NO_LICENSE, "https://github.com/Fang-Haoshu/Halpe-FullBody"),
        citation="H.-S. Fang et al., AlphaPose: Whole-Body Regional Multi-Person Pose Estimation and Tracking in Real-Time, TPAMI 2022, "
        "arXiv:2211.03375",
    ),
    "jhmdb": Format(
        reads="the folder of J-HMDB with joint_positions/ and Rename_Images/, or MMPose's Sub*.json",
        skeleton="jhmdb15",
        module="jhmdb",
        description="J-HMDB",
        url="http://jhmdb.is.tue.mpg.de",
        year=2013,
        contributor="H. Jhuang et al.",
        license=(NO_LICENSE, "http://jhmdb.is.tue.mpg.de"),
        citation="H. Jhuang, J. Gall, S. Zuffi, C. Schmid and M. J. Black, Towards Understanding Action Recognition, ICCV 2013",
    ),
    "labelme": Format(reads="a folder of labelme's JSON files", skeleton="coco18", module="labelme", description="labelme"),
    "label-studio": Format(
        reads="JSON or JSON-MIN export of Label Studio", skeleton="coco18", module="label_studio", description="Label Studio"
    ),
    "cvat": Format(reads="annotations.xml, CVAT for images 1.1", skeleton="coco18", module="cvat", description="CVAT"),
    "yolo-pose": Format(
        reads="data.yaml of Ultralytics YOLO-pose, or a folder of its label files",
        skeleton="coco18",
        module="yolo_pose",
        description="YOLO-pose",
    ),
}
