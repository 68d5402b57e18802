"""The common ground of recipes on images: their examples, and the network's input."""
