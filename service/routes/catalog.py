"""Every router, in the order of the contract."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from service.routes import agent, checking, devices, health, jobs, keys, measuring, models, searches, spaces, supernets, tables

ROUTERS: Final[tuple[APIRouter, ...]] = tuple(
    module.router
    for module in (health, spaces, devices, tables, measuring, checking, agent, supernets, searches, jobs, models, keys)
)
