"""Many steps of the parameters for one gradient in the outputs: target surrogates."""
