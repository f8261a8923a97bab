//! A page of the book in a browser, and all that it does wrong there.

use std::io::{self, Write};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::{json, Value};

use crate::common::root;
use crate::devtools::{Browser, Connection, PATIENCE};
use crate::{find, server};

/// Prints a line that is seen although the test passes.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}"); // `eprintln` would be held back
}

/// What a page is opened with.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub is_touched: bool,
    pub has_scripts: bool,
}

pub const DESKTOP: Screen = Screen { width: 1280, is_touched: false, has_scripts: true };
pub const PHONE: Screen = Screen { width: 360, is_touched: true, has_scripts: true };

/// The address of the book, which is built once.
pub fn book() -> &'static str {
    static BOOK: OnceLock<String> = OnceLock::new();
    BOOK.get_or_init(|| {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let built =
            Command::new(cargo).args(["xtask", "book"]).current_dir(root()).output();
        let built = built.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        server::serve(root().join("target/book"))
    })
}

/// The browser, which all tests that run at the same time share; none where there is none.
fn browser() -> Option<Arc<Browser>> {
    static RUNNING: Mutex<Weak<Browser>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(browser) = running.upgrade() {
        return Some(browser);
    }
    let Some(path) = find::find() else {
        let none = "no Chrome, Chromium or Edge was found (CHROME names one elsewhere)";
        assert!(env::var_os("CI").is_none(), "{none}");
        static SAID: OnceLock<()> = OnceLock::new();
        SAID.get_or_init(|| {
            say(&format!("{none}: the pages were not tested in a browser"))
        });
        return None;
    };
    let started = Browser::start(&path);
    let browser = started.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let browser = Arc::new(browser);
    *running = Arc::downgrade(&browser);
    Some(browser)
}

/// A page that is open.
pub struct Page {
    connection: Connection,
    _browser: Arc<Browser>, // it ends with its last page
}

impl Page {
    /// Opens a page of the book; none where there is no browser.
    pub fn open(name: &str, screen: Screen) -> Option<Self> {
        let browser = browser()?; // first, for without it nothing needs to be built
        Some(Self::open_at(browser, &format!("{}{name}", book()), screen))
    }

    /// Opens a page of the book as a file, without a server.
    pub fn open_file(name: &str) -> Option<Self> {
        let browser = browser()?;
        book();
        let path = root().join("target/book").join(name);
        Some(Self::open_at(browser, &format!("file://{}", path.display()), DESKTOP))
    }

    fn open_at(browser: Arc<Browser>, address: &str, screen: Screen) -> Self {
        let page = Self { connection: browser.open(), _browser: browser };
        let Screen { width, is_touched, has_scripts } = screen;
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": is_touched });
        for (command, settings) in [
            ("Page.enable", json!({})),
            ("Runtime.enable", json!({})), // reports what is written to the console
            ("Log.enable", json!({})),     // and what the browser itself complains of
            ("Network.enable", json!({})),
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setTouchEmulationEnabled", json!({ "enabled": is_touched })),
            ("Emulation.setScriptExecutionDisabled", json!({ "value": !has_scripts })),
            ("Page.navigate", json!({ "url": address })),
        ] {
            page.connection.command(command, settings);
        }
        page.until(&format!(
            "location.href === '{address}' && document.readyState === 'complete'"
        ));
        page
    }

    /// The value of an expression in the page.
    pub fn ask(&self, expression: &str) -> Value {
        self.evaluate(expression, false)
    }

    /// What a promise in the page comes to.
    pub fn wait_for(&self, promise: &str) -> Value {
        self.evaluate(promise, true)
    }

    fn evaluate(&self, expression: &str, is_promise: bool) -> Value {
        let settings = json!({
            "expression": format!("({expression})"),
            "awaitPromise": is_promise,
            "returnByValue": true,
        });
        let mut answer = self.connection.command("Runtime.evaluate", settings);
        let fault = &answer["exceptionDetails"];
        assert!(fault.is_null(), "{expression}: {fault}");
        answer["result"]["value"].take()
    }

    /// The value of an expression that is a text.
    pub fn text(&self, expression: &str) -> String {
        let value = self.ask(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}")).to_owned()
    }

    /// Waits until an expression is true.
    pub fn until(&self, condition: &str) {
        let start = Instant::now();
        while self.ask(condition) != true {
            assert!(start.elapsed() < PATIENCE, "this did not come true: {condition}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The middle of an element, which is brought into view.
    fn middle(&self, selector: &str) -> [f64; 2] {
        let place = self.ask(&format!(
            "(() => {{
                const element = document.querySelector('{selector}');
                element.scrollIntoView({{ block: 'center', inline: 'nearest', behavior: 'instant' }});
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                return [x + width / 2, y + height / 2];
            }})()"
        ));
        [0, 1].map(|index| place[index].as_f64().unwrap())
    }

    /// Moves the mouse over an element.
    pub fn point_at(&self, selector: &str) {
        let [x, y] = self.middle(selector);
        self.mouse("mouseMoved", "none", x, y);
    }

    /// Clicks on an element.
    pub fn click(&self, selector: &str) {
        let [x, y] = self.middle(selector);
        self.mouse("mouseMoved", "none", x, y);
        self.mouse("mousePressed", "left", x, y);
        self.mouse("mouseReleased", "left", x, y);
    }

    fn mouse(&self, kind: &str, button: &str, x: f64, y: f64) {
        let settings =
            json!({ "type": kind, "x": x, "y": y, "button": button, "clickCount": 1 });
        self.connection.command("Input.dispatchMouseEvent", settings);
    }

    /// Touches an element with a finger.
    pub fn tap(&self, selector: &str) {
        let [x, y] = self.middle(selector);
        for (kind, fingers) in
            [("touchStart", json!([{ "x": x, "y": y }])), ("touchEnd", json!([]))]
        {
            let settings = json!({ "type": kind, "touchPoints": fingers });
            self.connection.command("Input.dispatchTouchEvent", settings);
        }
    }

    /// Presses keys that have a name, one after the other.
    pub fn press(&self, keys: &[&str]) {
        const CODES: [(&str, u32); 6] = [
            ("Tab", 9),
            ("Enter", 13),
            ("ArrowLeft", 37),
            ("ArrowUp", 38),
            ("ArrowRight", 39),
            ("ArrowDown", 40),
        ];
        for key in keys {
            let code = CODES.iter().find(|(name, _)| name == key).unwrap().1;
            let text = if *key == "Enter" { "\r" } else { "" };
            for kind in ["keyDown", "keyUp"] {
                let settings = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text });
                self.connection.command("Input.dispatchKeyEvent", settings);
            }
        }
    }

    /// Types a text into what has the focus, key by key.
    pub fn write(&self, text: &str) {
        for letter in text.chars() {
            for (kind, text) in
                [("keyDown", letter.to_string()), ("keyUp", String::new())]
            {
                let settings = json!({ "type": kind, "key": letter, "text": text });
                self.connection.command("Input.dispatchKeyEvent", settings);
            }
        }
    }

    /// The addresses the page has asked for so far.
    pub fn requests(&self) -> Vec<String> {
        self.ask("null"); // what was reported before the answer has been heard
        let reports = self.connection.reports.borrow();
        let requests = reports
            .iter()
            .filter(|report| report["method"] == "Network.requestWillBeSent");
        requests
            .map(|report| report["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What the page has complained of so far, and its requests to others than `host`.
    pub fn faults(&self, host: &str) -> Vec<String> {
        let is_own =
            |address: &String| address.starts_with(host) || address.starts_with("data:");
        let foreign = self.requests().into_iter().filter(|address| !is_own(address));
        let foreign = foreign.map(|address| format!("a request to {address}"));
        let reports = self.connection.reports.borrow();
        reports.iter().filter_map(complaint).chain(foreign).collect()
    }

    /// Closes the page, which must have been without fault.
    pub fn close(self) {
        assert_eq!(self.faults(book()), Vec::<String>::new());
        self.connection.command("Page.close", json!({}));
    }
}

/// An error or a warning on the console, an error that nobody caught, or one that the browser saw.
fn complaint(report: &Value) -> Option<String> {
    let details = &report["params"];
    match report["method"].as_str()? {
        "Runtime.consoleAPICalled" => {
            let is_complaint =
                ["error", "warning", "assert"].contains(&details["type"].as_str()?);
            is_complaint.then(|| details["args"].to_string())
        }
        "Runtime.exceptionThrown" => Some(details["exceptionDetails"].to_string()),
        "Log.entryAdded" => {
            let entry = &details["entry"];
            (entry["level"] == "error")
                .then(|| format!("{} {}", entry["text"], entry["url"]))
        }
        _ => None,
    }
}
