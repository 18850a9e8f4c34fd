"""Stages that turn raw columns into tensors: texts, pictures and sounds."""
