import { Type } from 'typebox'

/** An error of ours, in the shape of ComfyUI's `POST /prompt` errors. */
export const ErrorReply = Type.Object({
  error: Type.Object({
    type: Type.String(),
    message: Type.String(),
    details: Type.String(),
    extra_info: Type.Record(Type.String(), Type.Unknown()),
  }),
  node_errors: Type.Object({}),
})

/** What is wrong with the values of a request, in one sentence. */
export const DetailReply = Type.Object({ detail: Type.String() })
