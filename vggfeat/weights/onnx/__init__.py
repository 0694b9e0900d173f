"""How an ONNX graph is read and followed; :mod:`vggfeat.weights.onnx_file` is its way in."""
