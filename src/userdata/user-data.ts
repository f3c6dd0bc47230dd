import { UserFiles, type UserFilesOptions } from './user-files.ts'
import { UserImport, type UserImportOptions } from './user-import.ts'
import { UserSettings } from './user-settings.ts'

/** What a person leaves on a ComfyUI: settings, workflows, templates. */
export interface UserData {
  settings: UserSettings
  files: UserFiles
  imports: UserImport
  /** True once this owner has settings or files. */
  hasAny(owner: string): Promise<boolean>
}

export type UserDataOptions = UserFilesOptions & Omit<UserImportOptions, 'settings' | 'files'>

/** Takes the folder `dir` for its own. Throws when it cannot be written. */
export function createUserData(options: UserDataOptions): UserData {
  const settings = new UserSettings({ records: options.records })
  const files = new UserFiles(options)
  const imports = new UserImport({ ...options, settings, files })
  return {
    settings,
    files,
    imports,
    async hasAny(owner) {
      // A front end asks this first; the files may come later.
      void imports.filesReady(owner)
      await imports.settingsReady(owner)
      return (await settings.text(owner)) !== undefined || (await files.stat(owner, '')) !== undefined
    },
  }
}
