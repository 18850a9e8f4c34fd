"""What a person writes in `conf/*.yaml`, checked and frozen; it knows nothing of what it configures."""

from __future__ import annotations

from kvspark.config.cache import CacheConfig
from kvspark.config.job import JobConfig
from kvspark.config.reading.load import load_job_config
from kvspark.config.secret import resolve_secret

__all__ = ["CacheConfig", "JobConfig", "load_job_config", "resolve_secret"]
