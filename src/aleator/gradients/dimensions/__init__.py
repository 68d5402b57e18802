"""Differential operators in many dimensions, from a few of them: stochastic dimension gradient descent (SDGD).

    laplacian(net, x, SDGD(batch=100), generator=g)      Σ_i ∂²u/∂x_i² from 100 dimensions drawn at random
    residual_loss(residual, independent)                 the loss whose gradient is unbiased

Derivatives are carried forward through the network in one pass (`taylor2`, `jet`); memory and time for the backward
pass grow with the number of dimensions drawn, not with that of dimensions. Public names are those of
`aleator.gradients`.
"""
