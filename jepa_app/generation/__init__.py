"""From words to pictures: settings, denoising, the state of one picture, the sampler, the pipeline and the engine."""
