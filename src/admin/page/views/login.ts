import { html } from '../html.ts'
import type { View, Viewer } from '../page-parts.ts'

/** The form to log in, with the reason why the last try failed. */
export function loginView({ needsToken }: Viewer, failure?: string): View {
  const body = html`${failure !== undefined && html`<p class="bad" role="alert">${failure}</p>`}
<form method="post" action="login" class="stacked">
${needsToken ? FIELDS : OPEN}
<p><button>Log in</button></p>
</form>
<p>The session ends after an hour without use, after twelve hours, and when the mirror restarts.</p>`
  return { title: 'Log in', body }
}

const FIELDS = html`<p>To see names and to change anything, show the token of administrators, or an identity that has the
right <code>admin</code>.</p>
<p><label for="user">User (empty with a token)</label><input id="user" name="user" autocomplete="username" maxlength="512"></p>
<p><label for="secret">Token or password</label><input id="secret" name="secret" type="password" autocomplete="current-password" maxlength="8192" required></p>`

const OPEN = html`<p>Only this machine reaches this listener, so that no token is needed. After the login, pages offer to
change things: pin, warm, remove. Each change is written to the audit log.</p>`
