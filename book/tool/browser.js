window.faults = [];
addEventListener("error", e => faults.push(
    e.message || "cannot load " + (e.target.src || e.target.href)), true);
addEventListener("unhandledrejection", e => faults.push(String(e.reason)));
addEventListener("securitypolicyviolation", e => faults.push(
    "asks the network for " + e.blockedURI));
const complain = console.error;
console.error = (...words) => {
    faults.push(words.join(" "));
    complain(...words);
};
