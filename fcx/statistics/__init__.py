"""Arrays to numbers, without torch: agreement with labels, where a map lies, comparisons with intervals."""
