/** A picture of one colour, saved; another colour is another graph. */
export const imagePrompt = ({ colour = 1, prefix = 'T' } = {}) => ({
  '1': { class_type: 'EmptyImage', inputs: { width: 16, height: 8, batch_size: 1, color: colour } },
  '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: prefix } },
})

/** Sleeps that long before it saves. */
export const sleepPrompt = (seconds: number) => ({
  ...imagePrompt(),
  '2': { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: 'S' } },
  '3': { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds } },
})

/** Checkpoint, two texts, sampler, decoder, save. Needs the checkpoint `a.safetensors`. */
export const samplerPrompt = ({ text = 'a cat', steps = 3, seed = 7 } = {}) => ({
  '1': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'a.safetensors' } },
  '2': { class_type: 'CLIPTextEncode', inputs: { text, clip: ['1', 1] } },
  '3': { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['1', 1] } },
  '4': { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 32, batch_size: 1 } },
  '5': {
    class_type: 'KSampler',
    inputs: {
      model: ['1', 0],
      positive: ['2', 0],
      negative: ['3', 0],
      latent_image: ['4', 0],
      seed,
      steps,
      cfg: 7.5,
      sampler_name: 'euler',
      scheduler: 'normal',
      denoise: 1,
    },
  },
  '6': { class_type: 'VAEDecode', inputs: { samples: ['5', 0], vae: ['1', 2] } },
  '7': { class_type: 'SaveImage', inputs: { images: ['6', 0], filename_prefix: 'K' } },
})
