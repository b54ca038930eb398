// The admin page works without this file. With it, open pages follow what happens, filters answer while you
// type, and snippets can be copied.

const RETRY_MS = 3000

/**
 * Replaces the parts that changed, except one that is being used.
 * @param {readonly { id: string, html: string }[]} parts
 */
function replaceParts(parts) {
  for (const { id, html } of parts) {
    const element = document.getElementById(id)
    if (element === null || element.contains(document.activeElement) || hasSelection(element)) continue
    const fresh = new DOMParser().parseFromString(html, 'text/html')
    element.replaceChildren(...fresh.body.childNodes)
  }
}

/** @param {Element} element */
function hasSelection(element) {
  const selection = document.getSelection()
  return selection !== null && !selection.isCollapsed && selection.containsNode(element, true)
}

/**
 * Follows the feed. A restart of the mirror closes it: then it is opened again until the mirror is back.
 * @param {string} address
 * @param {Element | null} state
 */
function follow(address, state) {
  /** @type {string | undefined} */
  let instance
  const open = () => {
    const feed = new EventSource(address)
    const say = (/** @type {string} */ text) => {
      if (state !== null && state.textContent !== text) state.textContent = text
    }
    feed.addEventListener('hello', event => {
      const now = JSON.parse(event.data)
      // Another version may be behind the address now, with another page.
      if (instance !== undefined && instance !== now) location.reload()
      instance = now
      say('live')
    })
    feed.addEventListener('parts', event => replaceParts(JSON.parse(event.data)))
    feed.addEventListener('over', () => {
      feed.close()
      say('the session has ended: load the page again')
    })
    feed.addEventListener('error', () => {
      say('no connection, trying again')
      // The browser tries again by itself, but not after an answer that is no stream.
      if (feed.readyState !== EventSource.CLOSED) return
      setTimeout(open, RETRY_MS)
    })
    addEventListener('pagehide', () => feed.close(), { once: true })
  }
  open()
}

/**
 * Filters while the user types: loads the list that the form asks for, and puts it in the place of the old one.
 * @param {HTMLFormElement} form
 */
function filter(form) {
  const list = document.getElementById('list')
  if (list === null) return
  /** @type {AbortController | undefined} */
  let running
  let timer = 0
  const load = async () => {
    running?.abort()
    running = new AbortController()
    const fields = [...new FormData(form)].map(([name, value]) => [name, String(value)])
    const query = new URLSearchParams(fields.filter(([, value]) => value !== ''))
    const address = `${form.getAttribute('action')}?${query}`
    try {
      const answer = await fetch(address, { signal: running.signal })
      if (!answer.ok) return
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
      const fresh = page.getElementById('list')
      if (fresh === null) return
      list.replaceChildren(...fresh.childNodes)
      history.replaceState(null, '', address)
    } catch {
      // A newer text is on its way, or the mirror is gone: the button still works.
    }
  }
  form.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(load, 250)
  })
}

/**
 * A button that copies a snippet, which only scripts can do.
 * @param {HTMLElement} snippet
 */
function copyButton(snippet) {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'quiet'
  button.textContent = 'Copy'
  button.setAttribute('aria-label', `Copy ${snippet.dataset.copy}`)
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(snippet.textContent ?? '')
    button.textContent = 'Copied'
  })
  snippet.before(button)
}

const { live } = document.body.dataset
if (live !== undefined) follow(live, document.getElementById('live-state'))
for (const form of document.forms) if (form.dataset.filter !== undefined) filter(form)
// Browsers give the clipboard only to pages that came over https or from this machine.
if (navigator.clipboard !== undefined)
  for (const snippet of document.querySelectorAll('pre'))
    if (snippet.dataset.copy !== undefined) copyButton(snippet)
