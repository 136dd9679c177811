"""The paper's MeTRAbs on Human3.6M, protocol 1, with MPII as 2D supervision (sections 3.6 and 6).

    python -m training.data.shard h36m H36M_ROOT shards/h36m
    python -m training.data.shard h36m_test H36M_ROOT shards/h36m_test
    python -m training.data.shard mpii MPII_ROOT shards/mpii
    python -m training.train paper_h36m runs/paper_h36m
    python -m training.evaluate h36m --checkpoint runs/paper_h36m --root H36M_ROOT --stride 4

Besides: Pascal VOC 2012 in VOCdevkit/VOC2012 (objects that hide people), and ResNet-50's ImageNet weights,
torchvision's or timm's, as weights/resnet50.pth. For the paper's mean and deviation: five copies of this file, each
with another `seed`.

Duration: 27 epochs. Neither this nor the score could be measured where this was written, for want of the data.
Expected: about the MPJPE of 49.3 ± 0.7 mm of the paper's MeTRo at stride 4 (`--stride 4`; 50.9 at 32), whose volumetric
head this is; MeTRo itself is loss=LossConfig(head2d=0, absolute=0), the 2D head then learns nothing.
"""

from training import paper

CONFIG = paper.trained_on(paper.people("shards/h36m", held_out="shards/h36m_test"))
