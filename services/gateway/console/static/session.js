// The session: signing in with an API key, and signing out.

import { once, request, RequestFailed, sessionEnded } from "./api.js";
import { byId, setNote, setText } from "./dom.js";

const RETRY_AFTER = 3_000;
// Another tab that signs in or out changes the session of all tabs.
const tabs = new BroadcastChannel("session");
const SIGNED_OUT_ELSEWHERE = "You signed out in another tab.";
const ENDED = "Your session has ended. Sign in again to continue.";
// Session storage keeps the reason for signing out through the reload.
const REASON = "signed-out-because";
// The stream of a tab may end before the news of its sign-out comes.
let endedBecause = ENDED;

export class Session {
  #form = byId("sign-in");
  #note = byId("sign-in-note");
  #onSignedIn;
  #keyId = "";

  /** `onSignedIn(session)` is called once. Signing out reloads the page. */
  constructor(onSignedIn) {
    this.#onSignedIn = onSignedIn;
    this.#form.addEventListener("submit", (event) => this.#signIn(event));
    tabs.onmessage = ({ data }) => {
      if (data === "signing out") endedBecause = SIGNED_OUT_ELSEWHERE;
      else leave(data === "signed out" ? SIGNED_OUT_ELSEWHERE : "");
    };
    byId("sign-out").addEventListener("click", (event) => signOut(event.currentTarget));
  }

  /** Continue the browser's session, or ask for a key. */
  async resume() {
    try {
      this.#enter(await request("GET", "/api/session"));
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      if (error.status === 401) return this.#ask();
      setText(byId("starting"), `${error.message} This page retries by itself.`);
      setTimeout(() => this.resume(), RETRY_AFTER);
    }
  }

  /** Check the session. If it has ended, the page asks for a key. If it is another one, the page shows that. */
  async check() {
    try {
      const { key_id: keyId } = await request("GET", "/api/session");
      if (keyId !== this.#keyId) leave("");
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error; // `sessionEnded` has handled a 401 already
    }
  }

  #ask() {
    document.body.dataset.view = "sign-in";
    setNote(this.#note, sessionStorage.getItem(REASON) ?? "");
    sessionStorage.removeItem(REASON);
    byId("key-id").focus();
  }

  async #signIn(event) {
    event.preventDefault();
    const work = async () => {
      setNote(this.#note, "");
      const key = Object.fromEntries(new FormData(this.#form));
      this.#enter(await request("POST", "/api/session", key));
      tabs.postMessage("signed in");
    };
    await once(this.#form, work, (refused) => setNote(this.#note, refused.message));
  }

  #enter(session) {
    this.#form.reset();
    this.#keyId = session.key_id;
    sessionEnded.addEventListener("ended", () => leave(endedBecause), { once: true });
    this.#onSignedIn(session);
  }
}

async function signOut(button) {
  const work = async () => {
    endedBecause = "";
    tabs.postMessage("signing out");
    await request("DELETE", "/api/session");
    tabs.postMessage("signed out");
    leave("");
  };
  await once(button, work, (refused) => {
    endedBecause = ENDED;
    setNote(byId("sign-out-note"), refused.message);
  });
}

let leaving = false;

// The next key may belong to another account, so the reload clears the page. The first reason is the right one: requests
// that are refused meanwhile follow from it.
function leave(why) {
  if (leaving) return;
  leaving = true;
  sessionStorage.setItem(REASON, why);
  location.reload();
}
