"""What leaves the house: ONNX files, their formats, what they say about how to be fed, and the verdict on
them."""
