/** Characters that are invisible, or that change the direction of what follows. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/**
 * The text with hidden characters shown by their numbers, so that no name can look like another one, and none
 * can command a terminal. Line breaks and tabs stay where `keeps` names them.
 */
export function revealed(text: string, keeps = ''): string {
  return text.replaceAll(HIDDEN, character =>
    keeps.includes(character) ? character : `[U+${hexOf(character)}]`,
  )
}

function hexOf(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')
}
