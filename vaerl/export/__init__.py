"""Taking a policy along: ONNX that acts without torch, a folder for a model hub (extra `onnx`)."""
