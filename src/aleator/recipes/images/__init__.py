"""What recipes on images share: their examples, and what a network gets of them."""
