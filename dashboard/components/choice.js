// The chosen step, as one part of the page knows it. This text stands before the script of each part that chooses steps.
//
// A choice shows at once, then the page is told. The page answers with the choice itself, often after the user has walked
// on: such an echo must not pull the mark back, so only a choice that did not come from here is taken over. Parts that
// are shared hear of each other's choices here in the browser: the way through the page takes as long as its figures.

const CHOSEN_EVENT = "nucleus-lens:step-chosen";
const SETTLED_AFTER_MS = 80;
const ECHO_WITHIN_MS = 5_000; // an echo may never come: the page leaves out choices that were overtaken

class Choice {
  position = null;
  report = () => {};
  #show;
  #fromPage; // the choice that the page sent last
  #reported = new Map(); // choices sent to the page that it has not sent back yet, and when
  #timer = 0;
  #hear = ({ detail }) => {
    if (detail.from === this) return;
    this.#forgetTimer();
    this.#mark(detail.position);
    if (detail.isReported) this.#reported.set(detail.position, performance.now());
  };

  constructor(show) {
    this.#show = show;
  }

  share(isShared) {
    document.removeEventListener(CHOSEN_EVENT, this.#hear);
    if (isShared) document.addEventListener(CHOSEN_EVENT, this.#hear);
    this.isShared = isShared;
  }

  // A key that is held down chooses faster than the page can draw: it `waits` until the walk has come to rest.
  choose(position, waits = false) {
    this.#forgetTimer();
    this.#mark(position);
    if (!waits) {
      this.#tell();
      return;
    }
    this.#announce(false);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#tell();
    }, SETTLED_AFTER_MS);
  }

  // What the page says is chosen.
  take(selected) {
    const isEcho = performance.now() - this.#reported.get(selected) < ECHO_WITHIN_MS;
    const isNew = this.#fromPage !== selected || this.position === null;
    this.#reported.delete(selected);
    this.#fromPage = selected;
    if (isNew && !isEcho && !this.#timer) this.#mark(selected);
  }

  #tell() {
    this.#reported.set(this.position, performance.now());
    this.#announce(true);
    this.report(this.position);
  }

  #announce(isReported) {
    if (!this.isShared) return;
    const detail = { from: this, position: this.position, isReported };
    document.dispatchEvent(new CustomEvent(CHOSEN_EVENT, { detail }));
  }

  #mark(position) {
    const before = this.position;
    this.position = position;
    this.#show(position, before);
  }

  #forgetTimer() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }
}

