"""Pure: a resource in, manifests out; None where there should be none."""
