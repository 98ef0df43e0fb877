"""cat2sub: caches chunks of remote datasets and serves slices of them."""
