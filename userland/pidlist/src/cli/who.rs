//! Users and states as they are typed.

use nix::unistd::User;
use pidlist_process_cache::State;

/// A user, by name or number.
pub fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("no such user here; a number is taken as it is".into()),
        Err(errno) => Err(format!("cannot look up users: {errno}")),
    }
}

/// Some states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States(pub Vec<State>);

/// Letters of states, commas between them allowed: `RD`.
pub fn states(text: &str) -> Result<States, String> {
    const LETTERS: &str = "write letters of R (runs), S (sleeps), D (sleeps, takes no signal), I (idle), \
                           T (stopped), t (traced), P (parked), Z (zombie), X (exited)";
    let states: Option<Vec<State>> = text
        .chars()
        .filter(|letter| *letter != ',')
        .map(State::from_letter)
        .collect();
    match states {
        Some(states) if !states.is_empty() => Ok(States(states)),
        _ => Err(LETTERS.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_letters() {
        let known = States(vec![State::Running, State::Traced, State::Dead]);
        assert_eq!(states("R,tX"), Ok(known));
        for bad in ["", ",", "Q", "running"] {
            assert!(states(bad).unwrap_err().contains("R (runs)"), "{bad}");
        }
    }

    #[test]
    fn users_have_names_and_numbers() {
        assert_eq!(user("root"), Ok(0));
        assert_eq!(user("4000000000"), Ok(4_000_000_000));
        assert!(user("no such user").is_err());
    }
}
