"""MLX: models of mlx-lm, and models as a course writes them."""
