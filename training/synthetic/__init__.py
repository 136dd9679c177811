"""Synthetic dressed people with exact labels: bodies, poses, clothes, light, cameras, and the stream made of them."""

from __future__ import annotations


def synthetic_ready() -> bool:
    """Whether body model and backgrounds are in the cache, so that scenes can be made at once."""
    from training.synthetic.backgrounds import index_file
    from training.synthetic.body_data import body_folder

    return (body_folder() / "complete").exists() and index_file().exists()
