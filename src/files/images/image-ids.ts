/** Longest id of a picture; those that workers give have 32 characters. */
export const MAX_ID_LENGTH = 200

/** True for node classes whose texts may be ids of pictures: those of the pack that Krita works with. */
export const takesImageIds = (classType: string): boolean => classType.startsWith('ETN_')
