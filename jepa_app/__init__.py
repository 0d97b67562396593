"""JEPA text-to-image models: D-JEPA, JEPA-T and TI-JEPA, with sampling, scoring and the studio."""
