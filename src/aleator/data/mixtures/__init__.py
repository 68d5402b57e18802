"""The proportions in which the domains of a mixture are shown, and the sampler that draws from them."""
