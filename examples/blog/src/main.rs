//! Runs the blog until Ctrl-C, or until it is told to end.
#![allow(clippy::print_stdout, reason = "it says where it is")]

use std::error::Error;
use std::io;

use blog::{Blog, Config};
use cache_aside::Settings;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let told = told_to_end()?;
    let (config, settings) = (Config::load()?, Settings::load()?);
    cache_aside::init(settings.clone()).await?;
    let blog = Blog::start(&config, &settings).await?;
    println!("http://{} (store: {})", blog.address(), cache_aside::global()?.store_name());
    told.await;
    println!("stopping");
    blog.stop().await?;
    cache_aside::close_redis().await;
    Ok(())
}

/// Ctrl-C, and what a service manager sends. Listens from now on, not only when it is awaited.
#[cfg(unix)]
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    Ok(async { _ = tokio::signal::ctrl_c().await })
}
