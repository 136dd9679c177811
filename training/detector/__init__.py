"""The person detector's training: BlazePose's detector, taught on whole synthetic pictures."""
