"""Trains the small English model that ships inside the server.

The room turns folders of speech into one bundle (two ONNX graphs, one weight file, a card).
It knows nothing about the server: the bundle's format is the only thing they share.
"""
