pub(in super::super) fn hello_with_name(_name: &str) -> Vec<u8> {
    Vec::new()
}
