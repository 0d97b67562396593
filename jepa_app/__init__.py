"""JEPA text-to-image models: D-JEPA, JEPA-T and TI-JEPA, their sampling, their scores and their studio."""
