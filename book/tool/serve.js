// Asks for the answer that comes when there is another build. A page that is not
// looked at does not ask: a browser opens only six connections to one server.
(() => {
    let asked = new AbortController();
    const ask = () => {
        if (document.hidden) return;
        const { signal } = asked = new AbortController();
        const again = () => signal.aborted || setTimeout(ask, 1000);
        fetch("CHANGED", { signal }).then(() => location.reload(), again);
    };
    document.addEventListener("visibilitychange", () => {
        asked.abort();
        ask();
    });
    ask();
})();
