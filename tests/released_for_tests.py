"""A released model's directory with random weights in the authors' layout: EfficientNetV2-S, 256 px, four joints."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from skimage import data

CONFIG: dict[str, Any] = {
    "proc_side": 256,
    "stride_train": 32,
    "stride_test": 32,
    "centered_stride": True,
    "legacy_centered_stride_bug": False,
    "efficientnet_size": "s",
    "backbone": "efficientnetv2-s",
    "depth": 8,
    "box_size_mm": 2200,
    "weak_perspective": False,
    "mix_3d_inside_fov": 0.5,
    "affine_weights": None,
    "transform_coords": False,
    "predict_all_and_latents": False,
}
JOINTS = ("pelv", "lhip", "rhip", "head")
EDGES = ((0, 1), (0, 2), (0, 3))
# Rows are the network's joints: the last column is the middle of both hips.
TRANSFORM = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0.5], [0, 0, 1, 0, 0.5], [0, 0, 0, 1, 0]], np.float32)
SKELETONS = {
    "": {"indices": [0, 1, 2, 3, 4], "names": [*JOINTS, "between"], "edges": np.array(EDGES)},
    "few_2": {"indices": np.array([4, 3]), "names": np.array(["between", "head"]), "edges": [[0, 1]]},
}


def write_all_but_weights(folder: Path, **config: Any) -> Path:
    """The directory without ckpt.pt's weights: that file is there, and empty."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | config))
    np.savez(folder / "joint_info.npz", joint_names=np.array(JOINTS), joint_edges=np.array(EDGES))
    np.save(folder / "joint_transform_matrix.npy", TRANSFORM)
    (folder / "skeleton_infos.pkl").write_bytes(pickle.dumps(SKELETONS))
    (folder / "ckpt.pt").touch()
    return folder


def write(folder: Path, **config: Any) -> Path:
    """The whole directory. Batch norms and head know two crops, so that their heatmaps are soft: on one-hot ones the
    smallest rounding could move a joint by cells."""
    import torch

    from metrabs_ros.released import directory
    from metrabs_ros.released.network import ReleasedNetwork

    write_all_but_weights(folder, **config)
    torch.manual_seed(0)
    network = ReleasedNetwork(directory.read(folder).config, len(JOINTS))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 127.5 - 1
        crops = torch.stack([picture[:, :256, :256], picture[:, 200:456, 100:356]])
        network.train().backbone(crops)
        features = network.eval().backbone(crops)
        head = network.heatmap_heads["conv_final"]
        head.weight.normal_()
        head.weight.mul_(1.5 / head(features).std((2, 3)).mean((0, 1)))
    torch.save(network.state_dict(), folder / "ckpt.pt")
    return folder
