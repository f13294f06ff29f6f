"""HTTP as the sources need it: one answer within its deadline and its size, tried again where that may help."""
