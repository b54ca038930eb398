import { html } from '../html.ts'
import type { View, ViewContext } from '../page-parts.ts'
import { table } from './layout.ts'

/** The page of the settings in force, each with the place that it comes from. */
export async function settingsView({ parts }: ViewContext): Promise<View> {
  const settings = await Promise.resolve(parts.settings)
  if (settings.length === 0)
    return { title: 'Settings', body: html`<p>The settings of this process are not known here.</p>` }
  const rows = settings.map(({ name, value, origin }) => {
    const indent = name.length - name.trimStart().length
    return html`<tr><th scope="row"><code${indent > 0 && html` class="in"`}>${name.trim()}</code></th><td><code>${value}</code></td><td>${origin}</td></tr>`
  })
  const body = html`<p>As the process started with them; <code>entrepot check</code> prints the same. Secrets are not shown.
A reload of the upstream file replaces its upstreams and sections: <a href="./">Now</a> says if one was refused.</p>
${table('Settings in force', ['Setting', 'Value', 'From'], rows)}`
  return { title: 'Settings', body }
}
