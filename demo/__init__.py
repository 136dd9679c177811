"""`make demo`: the node at work on a video or webcam, filmed from outside over ROS 2."""
