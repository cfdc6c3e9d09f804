"""Every router. Jobs come first: they are polled most, and routes are matched in this order."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from service.routes import (
    agent,
    checking,
    devices,
    exchange,
    fronts,
    happenings,
    health,
    jobs,
    keys,
    measuring,
    models,
    searches,
    sessions,
    spaces,
    supernets,
    tables,
    ui,
)

ROUTERS: Final[tuple[APIRouter, ...]] = tuple(
    module.router
    for module in (
        jobs,
        health,
        spaces,
        devices,
        exchange,
        tables,
        measuring,
        checking,
        agent,
        supernets,
        fronts,
        searches,
        models,
        keys,
        sessions,
        happenings,
        ui,
    )
)
