"""Certificates: what a set that nothing was chosen on says about a model's accuracy or loss on new examples."""
