"""Models that are one stage which cannot be looked into: functions and TorchScript."""
