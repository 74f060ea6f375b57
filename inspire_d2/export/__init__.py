"""Models for other programs: TorchScript and ONNX, checked against the model they come from."""
