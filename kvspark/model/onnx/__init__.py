"""Models from ONNX files: read as a graph and cut at values."""
