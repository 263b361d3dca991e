"""MLX: models of mlx-lm, and those of a course."""
