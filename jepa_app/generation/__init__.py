"""From words to pictures: settings, the flow, one picture in the making, the sampler, the pipeline and the engine."""
