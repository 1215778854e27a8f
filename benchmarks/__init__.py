"""The speed suite: our daemon beside what people would use instead, in one run."""
