"""What the library costs and how fast it is, as ratios measured in one run."""
