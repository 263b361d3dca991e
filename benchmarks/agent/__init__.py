"""What a memory of earlier requests gains: a scripted agent, and questions that are asked twice."""
