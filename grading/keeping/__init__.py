"""The file that results are kept in, and what one submission may cost."""
